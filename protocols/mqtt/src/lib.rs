//! MQTT 3.1.1 and 5 packets and the server session state machine; no I/O
