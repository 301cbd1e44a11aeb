"""The recipe that trains the model of the Shapes world from nothing."""
