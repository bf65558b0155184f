"""The one door to the Docker Engine: containers, networks, images, labels, run folders and the reaper."""
