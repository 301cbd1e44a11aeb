"""Model families: one file each owns every convention of its models."""
