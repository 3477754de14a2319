/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trials of kernel TLS, see probe_impl.h. One end of a connection has the kernel's TLS, the
 * other is a plain socket that holds what a second implementation makes of the same bytes: the
 * record is compared as it is on the wire, so a kernel that sends clear text is noticed.
 */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/probe_impl.h"

#define RECORD_LEN (5 + sizeof text + 1 + 16) /* header, text, type, tag */

/* RFC 8446 5.2: type 23 in a record with sequence number 0. Keys are 01 02 03 ..., the second
 * one 81 82 83 ...; the IV is 50 51 52 ... 5b. The records were made by OpenSSL's AEADs. */
static const char text[] = {'s', 'h', 'u', 'n', 't', ' ', 'p', 'r', 'o', 'b', 'e'};
static const unsigned char records[SUITES][RECORD_LEN] = {
	[SUITE_AES_128_GCM] = {0x17, 0x03, 0x03, 0x00, 0x1c, 0x4a, 0xb0, 0x4c, 0x24, 0x2e, 0xf6,
			       0xff, 0x43, 0x83, 0xf5, 0x4a, 0xb9, 0x6b, 0x42, 0x9d, 0xae, 0x0c,
			       0x90, 0x9c, 0x07, 0xf9, 0x95, 0x5c, 0xfe, 0xae, 0x4e, 0xeb, 0xba},
	[SUITE_AES_256_GCM] = {0x17, 0x03, 0x03, 0x00, 0x1c, 0x64, 0x5d, 0x1d, 0x7e, 0x8a, 0x7d,
			       0x8e, 0xfe, 0xff, 0xf8, 0xdb, 0xa9, 0x97, 0x65, 0x21, 0x58, 0xd8,
			       0x00, 0xfe, 0x55, 0x13, 0xb7, 0xe7, 0xc4, 0xeb, 0xd5, 0xf5, 0xd6},
	[SUITE_CHACHA20_POLY1305] = {0x17, 0x03, 0x03, 0x00, 0x1c, 0x70, 0x69, 0x50, 0x81,
				     0x43, 0xe1, 0xd6, 0x13, 0xa8, 0xf2, 0x86, 0x52, 0x64,
				     0x90, 0x1c, 0x1d, 0xed, 0x6a, 0xf5, 0x0e, 0x89, 0x5e,
				     0x5e, 0xdb, 0x66, 0x1c, 0x6d, 0xf9},
};
static const unsigned char second_record[RECORD_LEN] = {
	0x17, 0x03, 0x03, 0x00, 0x1c, 0x81, 0x2a, 0xca, 0x86, 0xcc, 0x5b,
	0x1a, 0x5f, 0xce, 0x7a, 0xbd, 0x44, 0x85, 0x02, 0xb7, 0x48, 0xff,
	0x1e, 0x3d, 0xb0, 0xa1, 0x39, 0x68, 0xe7, 0xc6, 0x22, 0x43, 0x53};

enum { FIRST_KEY = 0x01, SECOND_KEY = 0x81 };

static void count_up(unsigned char *p, size_t n, unsigned from)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(from + i);
}

/* 0 or -errno */
static int key_give(int fd, int direction, enum suite suite, unsigned key)
{
	struct tls12_crypto_info_aes_gcm_128 aes128 = {
		.info = {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128}};
	struct tls12_crypto_info_aes_gcm_256 aes256 = {
		.info = {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_256}};
	struct tls12_crypto_info_chacha20_poly1305 chacha = {
		.info = {TLS_1_3_VERSION, TLS_CIPHER_CHACHA20_POLY1305}};
	const void *info[SUITES] = {&aes128, &aes256, &chacha};
	const socklen_t len[SUITES] = {sizeof aes128, sizeof aes256, sizeof chacha};

	count_up(aes128.key, sizeof aes128.key, key);
	count_up(aes128.salt, sizeof aes128.salt, 0x50);
	count_up(aes128.iv, sizeof aes128.iv, 0x54);
	count_up(aes256.key, sizeof aes256.key, key);
	count_up(aes256.salt, sizeof aes256.salt, 0x50);
	count_up(aes256.iv, sizeof aes256.iv, 0x54);
	count_up(chacha.key, sizeof chacha.key, key);
	count_up(chacha.iv, sizeof chacha.iv, 0x50);
	return setsockopt(fd, SOL_TLS, direction, info[suite], len[suite]) < 0 ? -errno : 0;
}

int probe_ktls_key(int fd, int direction, enum suite suite)
{
	return key_give(fd, direction, suite, FIRST_KEY);
}

/* pair[0] has the kernel's TLS in one direction, pair[1] is the raw side. */
static void secure_pair(struct trial *t, int pair[2], int direction, enum suite suite)
{
	int err;

	trial_pair(t, pair);
	if (setsockopt(pair[0], IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") < 0) {
		if (errno == ENOENT)
			trial_missing(t, "this kernel has no TLS (TCP_ULP: %s)", strerror(errno));
		trial_refused(t, -errno, "TCP_ULP");
	}
	err = key_give(pair[0], direction, suite, FIRST_KEY);
	if (err == -ENOENT) /* and a write would now go out in clear */
		trial_missing(t, "the kernel has TLS, but not this cipher (module missing)");
	if (err < 0)
		trial_refused(t, err, direction == TLS_TX ? "TLS_TX" : "TLS_RX");
}

/* Ends the stream behind what was sent, so that nobody waits for what was not. */
static void expect_record(struct trial *t, int pair[2], const unsigned char record[RECORD_LEN])
{
	unsigned char got[RECORD_LEN];
	size_t have;

	trial_send(t, pair[0], text, sizeof text);
	if (shutdown(pair[0], SHUT_WR) < 0)
		trial_failed(t, "shutdown(): %s", strerror(errno));
	have = trial_receive(pair[1], got, sizeof got);
	if (have >= sizeof text && memmem(got, have, text, sizeof text) != NULL)
		trial_failed(t, "CLEAR TEXT on the wire");
	if (have < sizeof got)
		trial_failed(t, "%zu of %zu bytes of the record arrived", have, sizeof got);
	if (memcmp(got, record, sizeof got) != 0)
		trial_failed(t, "the record on the wire is not what it must be");
}

void probe_ktls_tx(struct trial *t)
{
	enum suite suite = (enum suite)t->variant;
	int pair[2];

	secure_pair(t, pair, TLS_TX, suite);
	expect_record(t, pair, records[suite]);
	trial_ok(t, "the record on the wire is right, byte by byte");
}

void probe_ktls_rx(struct trial *t)
{
	enum suite suite = (enum suite)t->variant;
	int pair[2];

	secure_pair(t, pair, TLS_RX, suite);
	trial_send(t, pair[1], records[suite], RECORD_LEN);
	trial_expect(t, pair[0], text, sizeof text, "a record");
	trial_ok(t, "a record was decrypted");
}

static void rekey(struct trial *t, int fd, int direction)
{
	int err = key_give(fd, direction, SUITE_AES_128_GCM, SECOND_KEY);

	if (err == -EBUSY)
		trial_missing(t, "a second key is refused");
	if (err < 0)
		trial_refused(t, err, "a second key");
}

void probe_ktls_rekey(struct trial *t)
{
	const unsigned char *first = records[SUITE_AES_128_GCM];
	int pair[2];

	secure_pair(t, pair, TLS_RX, SUITE_AES_128_GCM);
	trial_send(t, pair[1], first, RECORD_LEN);
	trial_expect(t, pair[0], text, sizeof text, "a record under the first key");
	rekey(t, pair[0], TLS_RX);
	trial_send(t, pair[1], second_record, RECORD_LEN);
	trial_expect(t, pair[0], text, sizeof text, "a record under the second key");

	secure_pair(t, pair, TLS_TX, SUITE_AES_128_GCM);
	trial_send(t, pair[0], text, sizeof text);
	trial_expect(t, pair[1], first, RECORD_LEN, "a record under the first key");
	rekey(t, pair[0], TLS_TX);
	expect_record(t, pair, second_record);
	trial_ok(t, "records under a second key are right in both directions");
}
