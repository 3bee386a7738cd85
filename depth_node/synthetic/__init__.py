"""Textured synthetic worlds with exact z-depth, known intrinsics and poses: ray-cast in numpy."""

from depth_node.synthetic.handheld import handheld_walk
from depth_node.synthetic.render import render
from depth_node.synthetic.street import MovingCar, SyntheticFrame, street_drive, street_world
from depth_node.synthetic.vehicle import VehicleMotion, junction_drive
from depth_node.synthetic.world import Primitive, Street, World

__all__ = [
    "MovingCar",
    "Primitive",
    "Street",
    "SyntheticFrame",
    "VehicleMotion",
    "World",
    "handheld_walk",
    "junction_drive",
    "render",
    "street_drive",
    "street_world",
]
