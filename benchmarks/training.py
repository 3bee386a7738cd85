"""How many samples a second does self-supervised training learn from? See training_comparison.py and --help."""

from __future__ import annotations

import sys
from pathlib import Path

# A script's folder comes first among the places of modules, and this file would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training_comparison import main

if __name__ == "__main__":
    sys.exit(main())
