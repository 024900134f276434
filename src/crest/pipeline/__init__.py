"""The lab: steps that make a bundle from a recipe. The product never imports it."""
