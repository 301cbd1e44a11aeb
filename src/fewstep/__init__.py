"""A post-training workshop for few-step flow-matching image models."""
