"""Results in the forms that other programs read: a diffusers pipeline, an archive that verifies by itself."""
