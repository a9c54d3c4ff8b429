"""Make the modules beside the tests importable: pytest runs in importlib mode, which does not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
