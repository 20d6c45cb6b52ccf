/* A library that tells when it is loaded: its constructor makes /marker, in the root of whoever loads it. */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void tell(void)
{
	int fd = open("/marker", O_WRONLY | O_CREAT, 0644);

	if (fd >= 0)
		close(fd);
}
