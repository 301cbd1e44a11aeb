"""Flow matching as pure functions: the path, its noise levels, samplers and guidance."""
