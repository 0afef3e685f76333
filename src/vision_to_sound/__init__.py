"""Audio anomaly detection with vision-based algorithms: that, when and at which frequencies a sound is wrong."""
