"""The files made from the table of parameters: config/depth.yaml and docs/parameters.md."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

import yaml

from depth_node.parameters import PARAMETERS, UNCONFIGURED, Parameter

_ROS_TYPES = {bool: "bool", int: "integer", float: "double", str: "string"}


def to_yaml() -> str:
    """A parameter file of all defaults, with comments: config/depth.yaml."""
    lines = [
        "# All parameters of depth_node with their defaults. Copy this file, keep what you change, and start it with",
        "# `ros2 launch depth_node depth.launch.py params_file:=FILE`. docs/parameters.md says when each can change.",
        "/**:",
        "  ros__parameters:",
    ]
    group = ""
    for parameter in PARAMETERS:
        before, (group, _, name) = group, parameter.name.rpartition(".")
        if group not in ("", before):
            lines.append(f"    {group}:")
        indent = "      " if group else "    "
        limits = _limits(parameter, parameter.choices)
        remarks = "; ".join(part for part in (parameter.unit, limits) if part)
        comment = parameter.description + (f" ({remarks})" if remarks else "")
        lines += textwrap.wrap(comment, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        lines.append(f"{indent}{name}: {_yaml_value(parameter.default)}")
    return "\n".join(lines) + "\n"


def to_markdown() -> str:
    """The page docs/parameters.md."""
    lines = [
        "# Parameters of the node",
        "",
        "Set them with `params_file:=FILE` of `depth.launch.py` (start from `config/depth.yaml`), with",
        "`--ros-args -p NAME:=VALUE`, or while the node runs with `ros2 param set /depth_node NAME VALUE`.",
        "A value out of range is refused, with the reason. In a file, a group such as `cloud` can be a mapping, as in",
        "`config/depth.yaml`, or part of the name, as in `cloud.stride: 4`.",
        "",
        f"Parameters that can be changed *{UNCONFIGURED}* take effect with the next `configure`:",
        "`ros2 lifecycle set /depth_node deactivate`, `cleanup`, then set them, `configure`, `activate`.",
        "",
        "Beside these, the node has `qos_overrides.TOPIC.publisher.reliability`, `.depth`, `.history` (the same with",
        "`.subscription.`; TOPIC in full, like `/depth/image`), `diagnostic_updater.period` (s, 1.0),",
        "`diagnostic_updater.use_fqn` (true), and ROS's own `use_sim_time`; all but the last are read once.",
        "",
        "| parameter | type | default | range | unit | can be changed | meaning |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for parameter in PARAMETERS:
        limits = _limits(parameter, tuple(f"`{choice}`" for choice in parameter.choices))
        cells = (
            f"`{parameter.name}`",
            _ROS_TYPES[parameter.type],
            f"`{_yaml_value(parameter.default)}`",
            limits,
            parameter.unit,
            parameter.changes,
            parameter.description,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _limits(parameter: Parameter, choices: tuple[str, ...]) -> str:
    if choices:
        return ", ".join(choices)
    if parameter.minimum is None:
        return ""
    has_maximum = parameter.maximum is not None
    return f"{parameter.minimum} to {parameter.maximum}" if has_maximum else f"{parameter.minimum} or more"


def _yaml_value(value: Any) -> str:
    return str(yaml.safe_dump(value)).splitlines()[0]


def main(argv: list[str] | None = None) -> None:
    """Print one of the generated files."""
    parser = argparse.ArgumentParser(prog="python -m depth_node.parameter_files", description=main.__doc__)
    parser.add_argument("format", choices=("yaml", "markdown"))
    print(to_yaml() if parser.parse_args(argv).format == "yaml" else to_markdown(), end="")


if __name__ == "__main__":
    main()
