"""What is handed out: wheel, sdist and the Debian package, installed where nothing else of ours is."""
