"""Optional plugins that ship with gosudacon and are off until enabled."""
