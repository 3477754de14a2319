/* SPDX-License-Identifier: Apache-2.0 */
/* The version, said once. CHANGELOG.md's newest heading is compared with it by check-docs. */
#ifndef SHUNT_VERSION_H
#define SHUNT_VERSION_H

#define SHUNT_VERSION "0.1.0"

#endif
