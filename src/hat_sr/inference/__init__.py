"""Running a network on images of any size: padding, tiles, self-ensemble, precision, memory and target sizes.

Everything is a function over one type, `hat_sr.inference.upscale.Upscale`; `hat_sr.inference.upscaler.Upscaler` puts
them together for a HAT.
"""
