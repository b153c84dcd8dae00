// Loaded before the client, which knows no other port than 9100: sends it to the port in RECEIPT_CLIENT_PORT.
"use strict";
const net = require("node:net");
const connect = net.connect;
net.connect = (port, host) => connect(Number(process.env.RECEIPT_CLIENT_PORT), host);
