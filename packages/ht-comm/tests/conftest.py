"""ht-comm works without torch, and so do its tests: those of what needs torch are then not collected."""

import importlib.util

OF_TORCH = ["test_autograd.py", "test_device.py", "test_tape.py", "test_torchpg.py"]
collect_ignore = [] if importlib.util.find_spec("torch") else OF_TORCH
