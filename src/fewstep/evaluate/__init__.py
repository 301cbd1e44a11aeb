"""From prompts to pictures, features, metrics and intervals."""
