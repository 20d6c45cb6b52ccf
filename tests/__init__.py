"""Tests of gosudacon; docs/testing.md says how they are laid out and run."""
