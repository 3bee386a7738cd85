"""Steps of the zoo: commands in processes of their own, done once for what they are given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.runs import run_command


@dataclass(frozen=True)
class Steps:
    """Runs commands and remembers, below `folder`, which ones are done."""

    folder: Path

    def run(self, name: str, command: str, options: Mapping[str, Any], reads: Sequence[Path] = ()) -> bool:
        """`python -m training COMMAND` with these options; False where that was done before.

        reads: files that decide about the result: the step is done again when one of them was written anew.

        Raises:
            TrainingError: it failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        config, done = self.folder / f"{name}.yaml", self.folder / f"{name}.done"
        identity = {
            "command": command,
            "options": dict(options),
            "reads": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in reads],
        }
        if done.is_file() and json.loads(done.read_text()) == json.loads(json.dumps(identity)):
            return False
        done.unlink(missing_ok=True)
        config.write_text(yaml.safe_dump(dict(options), sort_keys=False))
        run_command(command, ["--config", str(config)], self.folder / f"{name}.log")
        done.write_text(json.dumps(identity, indent=2) + "\n")
        return True
