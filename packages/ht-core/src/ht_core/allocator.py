"""How the memory of tensors comes from the system: in huge pages, and kept for the next result.

The first touch of fresh memory costs ten times what a copy does, and every operation makes a result. Both settings act
on the whole process, when ht_core is imported; a user's own environment variables win.
"""

from __future__ import annotations

import os

import torch

# Ask Linux for huge pages for large tensors: their first touch becomes several times cheaper. torch reads the variable
# at its first large allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# The GNU C library returns freed blocks to the system above a size that it learns from the first ones freed, up to
# 32 MiB, and keeps at most twice that size. A block of page alignment, which is what torch asks for, never teaches it
# that its like comes again: each result of 2 MiB and more would be touched afresh. Teach it once; nothing is touched.
# MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ switch the learning off.
torch.empty(31 << 20, dtype=torch.uint8, device="cpu")
