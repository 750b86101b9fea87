"""The trainer: from a samples folder to a model folder.

Importing this package loads the standard library only. TensorFlow and Keras come with the modules that need
them; Beam and GDAL are never loaded here.
"""
