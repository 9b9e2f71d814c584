// libcrypto for the handshake's HMAC-SHA-256, random bytes and constant-time compare.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
