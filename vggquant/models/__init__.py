"""Networks as torch modules: how they are loaded, what their features are, and the devices they run on."""
