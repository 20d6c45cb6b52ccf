"""One thin function per system call or kernel interface; imports nothing of ours."""
