"""Tensors to loss terms: pure functions that know no model.

Each returns one scalar to minimise. Learned temperatures and biases belong to the system that passes them in.
"""
