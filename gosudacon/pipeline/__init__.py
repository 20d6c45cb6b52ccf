"""Stages, steps, the plan, and the executor; knows no stage by name."""
