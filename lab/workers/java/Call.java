import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** One request that the client handed to its transport. */
final class Call {
    final String address;
    final int request;
    final int opaque;
    final long began = System.nanoTime();
    volatile long ended;
    volatile Integer code;
    volatile String epoch;

    Call(String address, RemotingCommand request) {
        this.address = address;
        this.request = request.getCode();
        this.opaque = request.getOpaque();
    }

    void answered(RemotingCommand response) {
        epoch = response.getExtFields() == null ? null : response.getExtFields().get("epoch");
        ended = System.nanoTime();
        code = response.getCode();
    }

    String json() {
        long until = ended == 0 ? System.nanoTime() : ended;
        return "{\"address\":" + Lines.quoted(address) + ",\"request\":" + request + ",\"code\":" + code + ",\"ms\":"
            + (until - began) / 1_000_000 + ",\"epoch\":" + (epoch == null ? "null" : Lines.quoted(epoch)) + "}";
    }
}
