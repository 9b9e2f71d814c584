// libcrypto for the handshake's HMAC-SHA-256, random bytes and constant-time compare. No feature macros: see CLibuv.
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
