"""The network and its weights. Nothing here knows images, files of images, training or devices."""
