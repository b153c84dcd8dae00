-- One promise at a time for each owner of a device. What a dead owner was sending may stay as it is while the POS has
-- the ticket's row locked, and must not keep the device from its next owner.
DROP INDEX kps.job_one_sending;
CREATE UNIQUE INDEX job_one_sending ON kps.job (printer_key, epoch) WHERE state = 'sending';
