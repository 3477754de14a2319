/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of any bytes that both ends have shut is over, but its last bytes may still lie in
 * our kernel, for a reader that pauses. Without us they would be the application's, and wait for
 * as long as that keeps its socket. A socket that is closed is an orphan: the kernel gives up
 * what its reader does not take within some minutes (tcp_orphan_retries).
 */
#ifndef SHUNT_ORPHAN_H
#define SHUNT_ORPHAN_H

struct seat;

/* Takes over the connected socket `fd`, that nobody watches any more, and closes it when its peer
 * has all that was written to it, or is gone. Until then it counts as a connection. Short of
 * memory it is closed at once. The worker's thread. */
void orphan_adopt(struct seat *seat, int fd);

/* Closes what is left: from here on it is the kernel's. */
void orphans_release(struct seat *seat);

#endif
