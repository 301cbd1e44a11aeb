"""Recipes: functions that return an experiment, with its hardware, duration and score."""
