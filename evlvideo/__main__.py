"""`python -m evlvideo`, which `accelerate launch -m evlvideo` needs."""

from evlvideo.cli.app import main

main()
