"""Reports from run directories: JSON, JSONL and PNG go in, one HTML file comes out; no torch."""
