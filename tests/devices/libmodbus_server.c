/* A Modbus device by libmodbus, for the tests. Arguments: tcp and a port, or rtu and a serial device.
 *
 * Unit 7. Holding register n holds 7000 + n, input register n holds 9000 + n (n below 200), coil n is on where n is a
 * multiple of 3, discrete input n where it is one of 2; beyond is exception 2. Over RTU another unit does not answer. */

#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COUNT = 200, UNIT = 7 };

static void serve(modbus_t *ctx, modbus_mapping_t *map) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        int length = modbus_receive(ctx, query);
        if (length > 0) {
            modbus_reply(ctx, query, length, map);
        } else if (length < 0) {
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    modbus_mapping_t *map = modbus_mapping_new(COUNT, COUNT, COUNT, COUNT);
    for (int n = 0; n < COUNT; n++) {
        map->tab_bits[n] = n % 3 == 0;
        map->tab_input_bits[n] = n % 2 == 0;
        map->tab_registers[n] = 7000 + n;
        map->tab_input_registers[n] = 9000 + n;
    }
    if (strcmp(argv[1], "rtu") == 0) {
        modbus_t *ctx = modbus_new_rtu(argv[2], 19200, 'N', 8, 1);
        modbus_set_slave(ctx, UNIT);
        if (modbus_connect(ctx) == -1) return 1;
        puts("ready");
        fflush(stdout);
        for (;;) {
            serve(ctx, map);
            usleep(10000);
        }
    }
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    int listener = modbus_tcp_listen(ctx, 4);
    if (listener == -1) return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (modbus_tcp_accept(ctx, &listener) == -1) return 1;
        serve(ctx, map);
        modbus_close(ctx);
    }
}
