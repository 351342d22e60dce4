"""Small evidence, written by hand: what a judge is shown in the tests."""
