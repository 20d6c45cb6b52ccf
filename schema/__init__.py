"""JSON Schemas of config.json, state and features, and their validators."""
