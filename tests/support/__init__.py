"""Servers, models and helpers that several rooms of tests share."""
