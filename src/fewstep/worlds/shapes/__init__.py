"""The Shapes world: coloured shapes, their prompts, an exact parser and a small model."""
