"""Bundle, state on disk, and the lifecycle of a container."""
