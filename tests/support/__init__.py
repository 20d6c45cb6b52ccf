"""What the tests against a real kernel share: bundles, the runtime under test, the search for leftovers."""
