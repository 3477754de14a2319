/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the service manager how we are, if there is one (sd_notify(3)'s protocol: a datagram to
 * the socket that NOTIFY_SOCKET names).
 */
#ifndef SHUNT_NOTIFY_H
#define SHUNT_NOTIFY_H

void notify_ready(void);
/* It takes up to `ms` to stop, however short the manager would have made it. */
void notify_stopping(unsigned ms);

#endif
