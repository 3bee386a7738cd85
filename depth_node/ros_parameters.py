"""The table of parameters as ROS parameters of a node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from depth_node.errors import ParameterError
from depth_node.parameters import AT_START, PARAMETERS, UNCONFIGURED, Parameter, Settings

# ROS ranges have two ends.
_LARGEST_INTEGER = 2**63 - 1


def declare_settings(node: Node) -> Settings:
    """Declare all parameters; their values after launch files and the command line.

    Raises:
        ParameterError: a value is not among the choices, or out of its range.
        rclpy.exceptions.ParameterException: a value is of another type.
    """
    values = {
        parameter.attribute: node.declare_parameter(parameter.name, parameter.default, descriptor(parameter)).value
        for parameter in PARAMETERS
    }
    return Settings(**values)


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What `ros2 param describe` says of a parameter."""
    described = ParameterDescriptor(
        name=parameter.name,
        description=f"{parameter.description} [{parameter.unit}]" if parameter.unit else parameter.description,
        read_only=parameter.changes == AT_START,
    )
    constraints = [f"one of: {', '.join(parameter.choices)}"] if parameter.choices else []
    if parameter.changes == UNCONFIGURED:
        constraints.append(f"can be changed {UNCONFIGURED}")
    described.additional_constraints = "; ".join(constraints)
    if parameter.minimum is not None and parameter.type is int:
        largest = _LARGEST_INTEGER if parameter.maximum is None else int(parameter.maximum)
        described.integer_range = [IntegerRange(from_value=int(parameter.minimum), to_value=largest)]
    elif parameter.minimum is not None:
        farthest = float("inf") if parameter.maximum is None else parameter.maximum
        described.floating_point_range = [FloatingPointRange(from_value=parameter.minimum, to_value=farthest)]
    return described


def changed_settings(settings: Settings, changes: Iterable[RosParameter], is_configured: bool) -> Settings:
    """The settings after a request to set parameters; parameters that are not in the table are left out.

    Raises:
        ParameterError: a value is not possible, or not now.
    """
    table = {parameter.name: parameter for parameter in PARAMETERS}
    known = {table[change.name]: change.value for change in changes if change.name in table}
    for parameter in known:
        if is_configured and parameter.changes == UNCONFIGURED:
            raise ParameterError(
                f"{parameter.name} can be changed only {UNCONFIGURED}: first deactivate, then clean up the node"
            )
    return Settings(**{**asdict(settings), **{parameter.attribute: value for parameter, value in known.items()}})
