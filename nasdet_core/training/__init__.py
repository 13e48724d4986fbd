"""Detector training: one loop, shared by supernets and stand-alone detectors, that resumes exactly."""
