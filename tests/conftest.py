"""For every test: one torch thread, and the shapes of the flow's signatures checked at run time."""

import torch
from jaxtyping import install_import_hook

# Two threads spin against one another on a small machine and are slower than one.
torch.set_num_threads(1)

# Before anything imports fewstep.flow. Types are checked in tests only: checks cost time, and
# torch.compile stumbles over them.
install_import_hook("fewstep.flow", "beartype.beartype")
