"""From the model's name that a caller asks for to the deployments that can answer."""
