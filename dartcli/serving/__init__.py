"""Use a trained model: predict, recommend, export."""
