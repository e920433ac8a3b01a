"""Downloads: files from hubs and web servers, resumed, verified and put in place whole. Knows nothing of images."""
