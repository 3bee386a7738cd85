"""LightningModules: they wire networks, losses and data; they do not compute."""
