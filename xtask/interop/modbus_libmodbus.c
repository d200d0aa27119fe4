/* A Modbus device by libmodbus, for the interop scenarios.
 *
 * Usage: modbus_libmodbus tcp | rtu DEVICE
 *
 * Holding register n holds n * 5, input register n holds n + 1000, coil n is on
 * when n is divisible by 3, discrete input n when it is odd. Prints "ready PORT"
 * and serves one connection after the other until it is killed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE 300

static void serve(modbus_t *bus, modbus_mapping_t *mapping)
{
    unsigned char request[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        int size = modbus_receive(bus, request);
        if (size > 0)
            modbus_reply(bus, request, size, mapping);
        else if (size < 0 && errno != EMBBADCRC)
            return;
    }
}

int main(int count, char **words)
{
    int is_tcp = count > 1 && strcmp(words[1], "tcp") == 0;
    if (!is_tcp && count < 3)
        return 64;
    modbus_t *bus = is_tcp ? modbus_new_tcp("127.0.0.1", 0)
                           : modbus_new_rtu(words[2], 115200, 'N', 8, 1);
    modbus_mapping_t *mapping = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE);
    if (bus == NULL || mapping == NULL)
        return 1;
    for (int n = 0; n < SIZE; n++) {
        mapping->tab_registers[n] = n * 5;
        mapping->tab_input_registers[n] = n + 1000;
        mapping->tab_bits[n] = n % 3 == 0;
        mapping->tab_input_bits[n] = n % 2 == 1;
    }
    if (!is_tcp) {
        modbus_set_slave(bus, 1);
        if (modbus_connect(bus) < 0)
            return 1;
        puts("ready 0");
        fflush(stdout);
        for (;;) {
            serve(bus, mapping);
            usleep(10000);
        }
    }
    /* libmodbus takes a port, and port 0 is any; it does not tell which. */
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        return 1;
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        if (modbus_tcp_accept(bus, &listener) < 0)
            return 1;
        serve(bus, mapping);
        modbus_close(bus);
    }
}
