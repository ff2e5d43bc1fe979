/* SCRAM-SHA-256 (RFC 5802, RFC 7677) for mosquitto 2, for one client at a time: the server's side, by OpenSSL.
 *
 *     cc -shared -fPIC -o scram.so scram_plugin.c
 *     plugin /path/scram.so
 *     plugin_opt_user NAME
 *     plugin_opt_password PASSWORD
 *
 * What it uses of mosquitto's plugin interface 5 and of OpenSSL 3 is declared here: mosquitto brings both with it, and no
 * headers are needed. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 10, DENIED = 11, AUTH_CONTINUE = -4, EVENT_START = 4, EVENT_CONTINUE = 5 };
enum { HASH = 32, TEXT_MAX = 512, ROUNDS = 4096 };

struct option { char *key, *value; };
struct auth {
    void *future, *client;
    const void *in;
    void *out;
    uint16_t in_len, out_len;
    const char *method;
    void *future2[3];
};
typedef int callback(int event, void *data, void *user);
int mosquitto_callback_register(void *id, int event, callback *function, const void *data, void *user);
void *mosquitto_malloc(size_t size);

const void *EVP_sha256(void);
unsigned char *HMAC(const void *hash, const void *key, int key_len, const unsigned char *text, size_t len,
                    unsigned char *out, unsigned *out_len);
unsigned char *SHA256(const unsigned char *text, size_t len, unsigned char *out);
int PKCS5_PBKDF2_HMAC(const char *password, int len, const unsigned char *salt, int salt_len, int rounds,
                      const void *hash, int out_len, unsigned char *out);
int EVP_EncodeBlock(unsigned char *out, const unsigned char *in, int len);
int EVP_DecodeBlock(unsigned char *out, const unsigned char *in, int len);

static const unsigned char SALT[] = "sixteen and salt";
static char user[64], password[64], client_first[TEXT_MAX], server_first[TEXT_MAX], nonce[TEXT_MAX];

static void mac(const unsigned char *key, const char *text, unsigned char *out) {
    HMAC(EVP_sha256(), key, HASH, (const unsigned char *)text, strlen(text), out, NULL);
}

static int answer(struct auth *auth, const char *text, int code) {
    size_t len = strlen(text);
    auth->out = mosquitto_malloc(len);
    memcpy(auth->out, text, len);
    auth->out_len = (uint16_t)len;
    return code;
}

static int start(struct auth *auth, const char *text) {
    char prefix[80], salt[64];
    if (strcmp(auth->method, "SCRAM-SHA-256") != 0) return NOT_SUPPORTED;
    snprintf(prefix, sizeof prefix, "n,,n=%s,r=", user);
    if (strncmp(text, prefix, strlen(prefix)) != 0) return DENIED;
    snprintf(client_first, sizeof client_first, "%s", text + 3);
    snprintf(nonce, sizeof nonce, "%.100sOfTheServer", text + strlen(prefix));
    EVP_EncodeBlock((unsigned char *)salt, SALT, sizeof SALT - 1);
    snprintf(server_first, sizeof server_first, "r=%.200s,s=%s,i=%d", nonce, salt, ROUNDS);
    return answer(auth, server_first, AUTH_CONTINUE);
}

static int finish(struct auth *auth, char *text) {
    char *proof_text = strstr(text, ",p="), expected[TEXT_MAX], all[3 * TEXT_MAX + 3], last[64] = "v=";
    unsigned char salted[HASH], key[HASH], stored[HASH], signature[HASH], proof[TEXT_MAX], found[HASH];
    if (proof_text == NULL) return DENIED;
    *proof_text = 0;
    snprintf(expected, sizeof expected, "c=biws,r=%.400s", nonce);
    if (strcmp(text, expected) != 0) return DENIED;
    snprintf(all, sizeof all, "%s,%s,%s", client_first, server_first, text);
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), SALT, sizeof SALT - 1, ROUNDS, EVP_sha256(), HASH, salted);
    mac(salted, "Client Key", key);
    SHA256(key, HASH, stored);
    mac(stored, all, signature);
    if (EVP_DecodeBlock(proof, (unsigned char *)proof_text + 3, (int)strlen(proof_text + 3)) < HASH) return DENIED;
    for (int i = 0; i < HASH; i++) proof[i] ^= signature[i];
    SHA256(proof, HASH, found);
    if (memcmp(found, stored, HASH) != 0) return DENIED;
    mac(salted, "Server Key", key);
    mac(key, all, signature);
    EVP_EncodeBlock((unsigned char *)last + 2, signature, HASH);
    return answer(auth, last, SUCCESS);
}

static int on_auth(int event, void *data, void *unused) {
    struct auth *auth = data;
    char text[TEXT_MAX] = {0};
    (void)unused;
    if (auth->in == NULL || auth->in_len >= TEXT_MAX) return DENIED;
    memcpy(text, auth->in, auth->in_len);
    return event == EVENT_START ? start(auth, text) : finish(auth, text);
}

int mosquitto_plugin_version(int count, const int *versions) {
    for (int i = 0; i < count; i++) if (versions[i] == 5) return 5;
    return -1;
}

int mosquitto_plugin_init(void *id, void **data, struct option *options, int count) {
    (void)data;
    for (int i = 0; i < count; i++) {
        char *place = strcmp(options[i].key, "user") == 0 ? user : password;
        snprintf(place, sizeof user, "%s", options[i].value);
    }
    int failed = mosquitto_callback_register(id, EVENT_START, on_auth, NULL, NULL);
    return failed ? failed : mosquitto_callback_register(id, EVENT_CONTINUE, on_auth, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *data, struct option *options, int count) {
    (void)data, (void)options, (void)count;
    return SUCCESS;
}
