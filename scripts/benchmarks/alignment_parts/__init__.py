"""Parts of `alignment.py`: arms, and the studies that plan them."""
